"""HTML and Markdown pages.

In reading order:

- `elements`: cards, plots, tables and sections; words explained where they are first met; HTML
  (`report.html.j2`) and Markdown.
- `outline`: the page of a run: its sections in order, and its files.
- `comparison_page`: the page of several networks.
- `advice_page`: the page of advice on a model, and its text.
- `run_sections`, `report_sections`, `frame_section`,
  `conversion_section`: the sections.
- `tables`: tables of counts and energies, for pages and the terminal.
"""
