"""What a network is, without torch: configuration -> plan -> shapes, parameters, MACs and the table of `describe`.

Start with `config` (fields of a ResNet), `variants` (named networks) and `plan` (the tree of `nodes`, built with
`blocks` and `attention`); `shapes`, `parts`, `aliases` and `describe` read a plan. `preprocessing` is data, too.
"""
