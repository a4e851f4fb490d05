"""What `doctor` looks at on the connected side: one module a subject; nothing here changes anything or asks anybody."""
