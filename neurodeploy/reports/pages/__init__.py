"""HTML and Markdown pages: sections, in order, and their rendering."""
