"""The HTML report of a re-identification evaluation.

`findings` collects distances and ranked galleries in one pass over the queries, `plots` draws, `page` renders.
"""
