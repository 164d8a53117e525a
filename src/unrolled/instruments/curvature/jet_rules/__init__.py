"""How ATen operators carry second-order Taylor coefficients: the rules behind `unrolled.instruments.curvature.jet`.

tensor          Jet (a stack of coefficients that looks like a tensor), JetUnsupported
dispatch        one operator at a time: which rule, or refusal by name
structure       views, copies, indexing, concatenation, dropout
elementwise     functions of one tensor
arithmetic      + - * / and their kin, of two tensors
products        matrix products, convolutions
reductions      sums, moments, norms, extremes
normalization   layer, RMS, group and batch norm
attention       softmax, scaled dot-product attention
losses          cross-entropy and the pointwise losses
linear_algebra  solving, inverting, determinants
fallback        what else torch can define by simpler operators, or differentiate on its own
blocks          elementwise work in pieces that stay in cache
internals       the corners of torch that the pass needs
"""
