"""Pages of HTML that are alone in their file: the house's style, script and small pictures."""
