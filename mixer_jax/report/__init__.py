"""Our results beside the published ones: records of finished runs in, tables out."""
