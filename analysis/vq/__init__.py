"""Two matched CTs and a Jacobian -> V, Q and classes: the formulas of docs/method.md, and nothing else."""
