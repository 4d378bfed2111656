"""Dramatiq middleware, one noun a file. Cheap to import; names actors by their names."""
