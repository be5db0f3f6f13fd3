"""Retrieval and re-identification: embeddings of images, ranks of matches and their metrics, re-ranking and search.

`reid` evaluates in one call. Below it: `embeddings` is a set with identities and cameras, `distances` computes blocks
of distances, `groups` tells matches from removed items, `ranks` finds the ranks of all matches without a full matrix or
sort, `metrics` turns them into mAP, CMC and mINP; `verification`, `open_set`, `single_shot`, `rerank` and `expansion`
are what their names say; `validation` is that of training, and `threshold` stores one for unknown objects. `embed`,
`embed_data` and `embedding_file` compute embeddings and keep them in files; `search` and `nearest` find similar images,
and `contact_sheet` draws them. `report/` writes HTML pages.
"""
