"""The messages of the wire, made by generate.py."""
