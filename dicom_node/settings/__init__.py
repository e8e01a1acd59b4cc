"""One TOML file -> frozen settings, and the names of the files and folders in the storage.

Every room that needs settings imports this one; it imports none of them.
"""
