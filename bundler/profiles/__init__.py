"""AIM's profiles: which of several model repositories a machine will ask for, and why."""
