"""Forms of bytes and texts that others defined, each read strictly: one spelling for each value, and no second one.

Nothing in here knows what is written in a form. What has not the form is `Invalid` (400), or a plain `ValueError` where
the caller has the words for it.
"""
