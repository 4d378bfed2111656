"""One file per actor; `pipeline.actors` is their roster."""
