"""A delta against a base model's singular vectors, by numpy's SVD of both whole matrices.

Shares no code with raylab and none of its method: W + delta is formed, and every singular vector
is compared with every other one.
"""

import numpy as np

ZERO = 2.0**-20


def svd(matrix):
    """(U, s, V) of the directions whose singular value is not zero."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    there = s > ZERO * s[0]
    return u[:, there], s[there], vt[there].T


def against_base(weight, delta, top, epsilon):
    """The numbers of one tensor, and `margin`: how near a cosine comes to `epsilon`."""
    weight, delta = np.asarray(weight, np.float64), np.asarray(delta, np.float64)
    top = min(top, *weight.shape)
    u, _, v = svd(weight)
    energy = float((delta**2).sum())
    new = svd(weight + delta)[0][:, :top]
    cosines = np.abs(u.T @ new).max(axis=0) if u.shape[1] else np.zeros(new.shape[1])
    return {
        "energy": energy,
        "left": float(((u[:, :top].T @ delta) ** 2).sum()),
        "right": float(((delta @ v[:, :top]) ** 2).sum()),
        "directions": new.shape[1],
        "intruders": int((cosines < epsilon).sum()) if energy else 0,
        "margin": float(np.abs(cosines - epsilon).min()) if new.shape[1] else 1.0,
    }
