"""CTs whose answer is known: phantoms, and real CTs that breathe as other patients; a result beside that truth."""
