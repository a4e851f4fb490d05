"""What `doctor` looks at on a site: one module a subject, each observes, then judges.

Nothing is changed, but for one trial: `links` makes a folder in `state/` and removes it, and those of killed trials.
"""
