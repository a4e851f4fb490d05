"""One file a command: parse, call one function, print. The only place that may import `runtime`."""
