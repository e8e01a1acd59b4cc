"""Where jobs are worked on: one file an engine, and a registry of them.

In: orders, "work on job N, attempt A". Out: which of them have ended, and how. Verdicts, progress and results go
through the database and the storage, never through an engine.
"""
