"""Merging by singular vectors, from the papers, on whole matrices in numpy's float64.

TSV-Merge: Gargiulo et al. 2024 (arXiv:2412.00081). Iso-C and Iso-CTS: Marczak et al. 2025
(arXiv:2502.04959). KnOTS: Stoica et al. 2024 (arXiv:2410.19735). Core Space: Panariello et al. 2025
(arXiv:2509.17786). Singular values that are zero to rounding have no vectors. Shares no code with
raylab, which forms no matrix of the layer's size where it has factors.
"""

import numpy as np

from tests.oracles import merging


def svd(matrix):
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    rank = np.linalg.matrix_rank(matrix) if matrix.size else 0
    return u[:, :rank], s[:rank], v[:rank]


def procrustes(columns):
    """The nearest matrix with orthonormal columns, within what `columns` span."""
    u, _, v = svd(columns)
    return u @ v


def weighed(matrices, weights):
    return [w * m for w, m in zip(weights, matrices, strict=True)]


def tsv(matrices, weights, k=None):
    count = k or min(matrices[0].shape) // len(matrices)
    parts = [svd(x) for x in weighed(matrices, weights)]
    left = np.hstack([u[:, :count] for u, _, _ in parts])
    right = np.vstack([v[:count] for _, _, v in parts])
    values = np.concatenate([s[:count] for _, s, _ in parts])
    return procrustes(left) @ np.diag(values) @ procrustes(right.T).T


def iso_c(matrices, weights):
    u, s, v = svd(sum(weighed(matrices, weights)))
    return np.mean(s) * u @ v if len(s) else 0 * matrices[0]


def iso_cts(matrices, weights, share=0.8):
    xs = weighed(matrices, weights)
    u, s, v = svd(sum(xs))
    own = round((len(s) - int(len(s) * share)) / len(xs))
    common = len(s) - own * len(xs)
    u, s, v = u[:, :common], s[:common], v[:common]
    parts = [svd(x - u @ u.T @ x) for x in xs]
    left = np.hstack([u, *(part[0][:, :own] for part in parts)])
    right = np.vstack([v, *(part[2][:own] for part in parts)])
    values = np.concatenate([s, *(part[1][:own] for part in parts)])
    return np.mean(values) * procrustes(left) @ procrustes(right.T).T


def ties(matrices, weights, density, normalize=True):
    limits = [merging.threshold([m], density)[1] for m in matrices]
    kept = [merging.trimmed(m, t) for m, t in zip(matrices, limits, strict=True)]
    moves = merging.elected(kept, weights, weights, normalize)
    return np.reshape(moves, matrices[0].shape)


def knots_ties(matrices, weights, density):
    u, s, v = svd(np.hstack(matrices))
    parts = np.split(np.diag(s) @ v, len(matrices), axis=1)
    return u @ ties(parts, weights, density)


def core(factors, rule):
    """`rule` of the core matrices; factors: (B, A) of every model, B with its scale."""
    left = svd(np.hstack([b for b, _ in factors]))[0]
    right = svd(np.vstack([a for _, a in factors]))[2]
    return left @ rule([left.T @ b @ a @ right.T for b, a in factors]) @ right
