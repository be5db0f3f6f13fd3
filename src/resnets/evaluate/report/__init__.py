"""`report.html` and the plots in it: open `page` first; it renders `templates/report.html` with Jinja2.

`curves` plots metrics per epoch, `confusion` the confusion matrix, both with the colours and fonts of `theme`.
"""
