"""A pair -> a job: one table of states and moves, the process that works on it, and what a patient had before.

In: pairs that `studies` decided on. Out: results, queued for `delivery`. Never imports `studies` or `intake`.
"""
