"""Numbered steps of the schema, run by `pipeline.database.migrate`; a step that has landed is never edited."""
