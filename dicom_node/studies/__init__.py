"""The facts known of each study -> when to look at it, and the decision: a job, a search, or why neither.

In: rows of instances and procedure steps. Out: rows of studies and jobs.
"""
