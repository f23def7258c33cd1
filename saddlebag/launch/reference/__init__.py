"""What recipes may say, read from the code: every key, as a list, a page, and a schema for editors."""
