"""The guard of a deployed adapter, one idea per file: what may teach, what is checked, who answers, what is kept."""
