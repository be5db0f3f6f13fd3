"""Retrieval and re-identification: ranks of matches, their metrics, re-ranking and search.

`embeddings` is a set of embeddings with identities and cameras, `distances` computes blocks of distances, `ranks` finds
the ranks of all matches without a full matrix or sort, and `metrics` turns them into mAP, CMC and mINP.
"""
