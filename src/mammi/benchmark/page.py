"""The results as a page: tables and pictures."""
