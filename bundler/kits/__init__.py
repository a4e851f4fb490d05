"""Kits: the program itself, made into a folder that crosses the gap."""
