"""Pooling by transforms: filters, wavelets, spectra of long axes."""

import numpy as np
import pytest

import cnncore
from cnncore import SettingError, ShapeError
from cnncore.operators.transforms import implementation as transforms
from cnncore.testing import check_adjoint


def test_a_filter_of_one_tap_takes_every_second_cell(rng):
    x = rng.standard_normal((2, 3, 7, 6))
    assert np.array_equal(cnncore.blur_pool(x, filter_size=1), x[:, :, ::2, ::2])


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_a_constant_image_stays(size, mode):
    y = cnncore.blur_pool(np.full((1, 1, 5, 9), 3.0), filter_size=size, padding_mode=mode)
    assert y.shape == (1, 1, 3, 5) and np.allclose(y, 3, atol=1e-14)


def test_reflection_needs_cells():
    with pytest.raises(ShapeError, match=r"extent above 2.*filter_size=2 or less, or padding_mode='replicate'"):
        cnncore.blur_pool(np.ones((1, 1, 2)), filter_size=5)
    assert cnncore.blur_pool(np.ones((1, 1, 1)), filter_size=7, padding_mode="replicate") == 1


def test_haar_is_twice_the_average(rng):
    x = rng.standard_normal((2, 3, 8, 4))
    assert np.allclose(cnncore.wavelet_pool(x), 2 * cnncore.avg_pool(x, kernel_size=2))
    assert np.allclose(cnncore.wavelet_pool(x, levels=2), 4 * cnncore.avg_pool(x, kernel_size=4))
    assert cnncore.wavelet_pool(x, levels=30).shape == (2, 3, 1, 1)


@pytest.mark.parametrize("h", [1, 2, 7, 8])
def test_low_frequencies_stay_as_they_are(h):
    """Waves below half the output's extent, sampled anew; those above vanish."""
    i = np.arange(16) / 16
    for k in range(9):
        x = np.cos(2 * np.pi * k * i + 0.3)[None, None]
        y = cnncore.spectral_pool(x, output_size=h, norm="forward")[0, 0]
        if k < h / 2:
            assert np.allclose(y, np.cos(2 * np.pi * k * np.arange(h) / h + 0.3))
        elif k > h / 2:
            assert np.allclose(y, 0, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("settings", [{"norm": "ortho"}, {"norm": "forward"}], ids=str)
@pytest.mark.parametrize("h", [100, 101])
def test_long_axes_by_fourier_transforms(h, settings, dtype, rng, monkeypatch):
    """Both ways to compute it give the same, forward and backward; channels innermost too."""
    x = rng.standard_normal((2, 3, 301, 4)).astype(dtype)
    dy = rng.standard_normal((2, 3, h, 3)).astype(dtype)
    results = []
    for short in (256, 512, 0):
        monkeypatch.setattr(transforms, "SHORT", short)
        for image in (x, np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)):
            y, backward = cnncore.spectral_pool.with_backward(image, output_size=(h, 3), **settings)
            results.append((y, backward(dy)))
    for y, dx in results[1:]:
        limit = 1e-5 if dtype == np.float32 else 1e-13
        assert np.abs(y - results[0][0]).max() < limit * np.abs(y).max()
        assert np.abs(dx - results[0][1]).max() < limit * np.abs(dx).max()
    if dtype == np.float64:
        monkeypatch.setattr(transforms, "SHORT", 0)
        check_adjoint(cnncore.spectral_pool, x, output_size=(h, 3), **settings)


@pytest.mark.parametrize("extents", [(9, 7), (8, 9), (6, 8)])
@pytest.mark.parametrize("output", [(3, 3), (4, 5), (5, 2), (4, 4)])
def test_both_spectra_keep_the_same_image(extents, output, rng):
    x = rng.standard_normal((1, 2, *extents))
    spectral = cnncore.spectral_pool(x, output_size=output)
    assert np.allclose(cnncore.hartley_pool(x, output_size=output), spectral, atol=1e-13)
    cropped = cnncore.hartley_pool(x, output_size=output, nyquist="crop")
    same = all(h % 2 or h == H for h, H in zip(output, extents, strict=True))
    assert np.allclose(cropped, spectral, atol=1e-13) == same


def test_no_frequencies_to_fill_a_larger_image():
    for op in (cnncore.spectral_pool, cnncore.hartley_pool):
        with pytest.raises(SettingError, match="larger than input"):
            op(np.ones((1, 1, 4)), output_size=5)
