"""The robustness report: what is measured, what it says, and its forms.

The content is one JSON document (`schema.json` says what is in it); page, Markdown, model card and terminal summary are
renderings of it and of nothing else, but for the example pictures.
"""
