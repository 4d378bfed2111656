"""Numbered steps of the schema, run by `pipeline.database.migrate`; a landed step is never edited."""
