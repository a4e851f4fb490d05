"""`python -m bundler` is the `bundle` program, whatever else on this machine is called `bundle`."""

from bundler.commands.main import main

main()
