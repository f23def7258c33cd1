"""A study as people see it: rivals beside it, tables, pictures and a page."""
