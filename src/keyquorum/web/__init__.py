"""The login page's files: HTML, CSS and ES modules, served by the gateway as they are (`gateway/page.py`)."""
