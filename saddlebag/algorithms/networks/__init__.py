"""Problems made of torch modules. torch is imported when the first operator is asked, not before.

`flat.py` keeps parameters as one vector, `game.py` makes players and losses a problem, `adversary.py` finds the worst
perturbation of a batch, `digits.py` trains a small vision transformer (`vision.py`) against it;
`digits_gan.py` plays a generator against a critic (`gan.py`), judged by a Frechet distance (`frechet.py`).
"""
