"""One TOML file -> frozen settings, and the names of what lies in the storage.

Imported by all who are told something; imports none of them.
"""
