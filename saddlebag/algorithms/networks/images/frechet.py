"""The Frechet distance between two sets of pictures in a fixed space of random features: the merit of a generator.

Shapes: N = pictures, P = pixels, E = features.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from saddlebag.compression.draws import Draws
from saddlebag.compression.stream import Purpose
from saddlebag.errors import ConfigError

Array = npt.NDArray[np.float64]

_KEY = 0x4672_6563_6865_74  # "Frechet": the features are the same in every run, so merits of different runs can be compared


def normals(draws: Draws, purpose: Purpose, *shape: int) -> Array:
    """Standard normal numbers of a worker's own stream (Box and Muller 1958): a function of the key and the shape."""
    count = int(np.prod(shape))
    stream, half = draws.own(purpose), -(-count // 2)
    radius = np.sqrt(-2.0 * np.log1p(-stream.uniforms(half)))
    angle = 2.0 * np.pi * stream.uniforms(half)
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:count].reshape(shape)


def frechet_distance(mean_E: Array, covariance_EE: Array, other_mean_E: Array, other_covariance_EE: Array) -> float:
    """|m - m'|^2 + tr(S + S' - 2 (S S')^{1/2}): the squared Wasserstein-2 distance of two normal laws.

    Dowson and Landau 1982; as a merit of generators, Heusel et al. 2017. The trace of (S S')^{1/2} is that of the symmetric
    (S^{1/2} S' S^{1/2})^{1/2}. Not negative, up to rounding, which is cut off.
    """
    values, vectors = np.linalg.eigh(covariance_EE)
    root_EE = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root_EE @ other_covariance_EE @ root_EE).clip(0.0)).sum()
    gap_E = mean_E - other_mean_E
    return max(0.0, float(gap_E @ gap_E + np.trace(covariance_EE) + np.trace(other_covariance_EE) - 2.0 * cross))


@dataclasses.dataclass(frozen=True, eq=False)
class Frechet:
    """The distance of a set of pictures to a fixed one, in E random features.

    Features are max(0, W v + b) with v the pixels, centred and divided by the standard deviation of all of them, rows of W
    standard normal / sqrt(P), b standard normal: a wide layer without training, whose second moments see more of a picture
    than those of its pixels. It is no Inception distance, and compares with other runs of this project only.

    Attributes:
        weight_PE, bias_E: of the features.
        centre_P, scale: of the pixels.
        mean_E, covariance_EE: of the features of the fixed set.
    """

    weight_PE: Array
    bias_E: Array
    centre_P: Array
    scale: float
    mean_E: Array
    covariance_EE: Array

    @classmethod
    def of(cls, pictures_NP: Array, *, num_features: int = 64) -> Frechet:
        """The distance to these pictures.

        Raises:
            ConfigError: fewer than 2 pictures, or all pixels are constant.
        """
        count, pixels = pictures_NP.shape
        centre_P = pictures_NP.mean(axis=0)
        scale = float(np.sqrt(pictures_NP.var(axis=0).mean()))
        if count < 2 or not scale > 0:
            raise ConfigError(f"a Frechet distance needs at least 2 pictures that differ, got {count} with deviation {scale:g}")
        draws = Draws(_KEY, 0)
        weight_PE = normals(draws, Purpose.DATA, pixels, num_features) / np.sqrt(pixels)
        bias_E = normals(draws, Purpose.SAMPLE, num_features)
        mean_E, covariance_EE = _moments(_features(pictures_NP, weight_PE, bias_E, centre_P, scale))
        return cls(weight_PE, bias_E, centre_P, scale, mean_E, covariance_EE)

    def __call__(self, pictures_NP: Array) -> float:
        """The distance of these pictures (N >= 2) to the fixed ones; NaN where they are not finite."""
        if not np.isfinite(pictures_NP).all():
            return float("nan")
        features_NE = _features(pictures_NP, self.weight_PE, self.bias_E, self.centre_P, self.scale)
        return frechet_distance(self.mean_E, self.covariance_EE, *_moments(features_NE))


def _features(pictures_NP: Array, weight_PE: Array, bias_E: Array, centre_P: Array, scale: float) -> Array:
    features_NE: Array = np.maximum((pictures_NP - centre_P) / scale @ weight_PE + bias_E, 0.0)
    return features_NE


def _moments(features_NE: Array) -> tuple[Array, Array]:
    return features_NE.mean(axis=0), np.cov(features_NE, rowvar=False)
