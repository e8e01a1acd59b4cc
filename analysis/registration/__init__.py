"""Two CTs and their lungs -> the displacement from expiration to inspiration, its Jacobian, and how good it is."""
