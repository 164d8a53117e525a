"""The latent studies on a shrunken configuration."""

from unrolled.runs import Run
from unrolled.studies import latent_superposition


def test_superposition(tmp_path):
    config = latent_superposition.Config(problems=6, graphs=4, nodes=8, walks=50)
    with Run.create("latent-superposition", config, root=tmp_path) as run:
        claims = {claim.id: claim for claim in latent_superposition.study(config, run)}
        assert all(claims[name].ours == 1.0 for name in ("solved", "not-before", "support", "any-graph"))
        assert 0 < claims["walk"].ours < 0.5
        drawn = latent_superposition.figures(run)
    assert set(drawn) == {"thoughts", "walk"}
