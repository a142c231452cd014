"""Normalisation goes by MONAI's names and is what MONAI gives, without MONAI."""

from typing import Any

import pytest
from monai.networks.layers.utils import get_norm_layer

from near_monai.errors import NearError
from near_monai.networks.convolution import convolution


@pytest.mark.parametrize("norm", ["batch", ("group", {"num_groups": 4})])
def test_normalisation_is_that_of_monai(norm: Any) -> None:
    assert repr(convolution(3, 8, norm)[1]) == repr(get_norm_layer(norm, 3, 8))


def test_other_normalisations_are_refused_by_name() -> None:
    with pytest.raises(NearError, match=r"^norm 'instance'; expected 'batch' or 'group'$"):
        convolution(3, 8, "instance")
