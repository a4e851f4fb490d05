"""What `doctor` looks at on a site: one module a subject, each observes, then judges; nothing here changes anything."""
