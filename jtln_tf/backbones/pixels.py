"""From raw pixels to what a trunk was trained on: channels and scaling, as layers that are saved with the model."""

import keras

# Channel statistics of ImageNet in RGB order; "caffe" means are in 0..255 and BGR order.
_TORCH_MEAN = (0.485, 0.456, 0.406)
_TORCH_STD = (0.229, 0.224, 0.225)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
# Scale and offset.
SCALES = {
    "0_255": (1.0, 0.0),
    "tf": (1.0 / 127.5, -1.0),
    "-1_1": (1.0 / 127.5, -1.0),
    "lite": (1.0 / 128.0, -127.0 / 128.0),
    "0_1": (1.0 / 255.0, 0.0),
}


def expand_gray(image: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    """Repeats a gray image [B, H, W, 1] to `channels` equal channels; returns any other image unchanged."""
    if image.shape[-1] != 1 or channels == 1:
        return image
    return keras.layers.Concatenate(name="gray_to_channels")([image] * channels)


def scale_pixels(image: keras.KerasTensor, mode: str) -> keras.KerasTensor:
    """Scales images [B, H, W, C] in 0..255 to what a pretrained trunk expects.

    The modes are `caffe` (RGB to BGR minus the ImageNet mean), `torch` (RGB in 0..1, then ImageNet mean and deviation),
    `tf` or `-1_1` (-1..1), `lite` (EfficientNet-Lite's `(x - 127) / 128`), `0_1`, and `none` or `0_255` (unchanged).
    """
    if mode in ("none", "0_255"):
        return image
    if mode == "caffe":
        # An RGB image read backwards along its channels is BGR.
        return rescale(keras.ops.flip(image, axis=-1), 1.0, [-mean for mean in _CAFFE_MEAN_BGR])
    if mode == "torch":
        scale = [1.0 / (255.0 * std) for std in _TORCH_STD]
        return rescale(image, scale, [-mean / std for mean, std in zip(_TORCH_MEAN, _TORCH_STD, strict=True)])
    return rescale(image, *SCALES[mode])


def rescale(image: keras.KerasTensor, scale: float | list[float], offset: float | list[float]) -> keras.KerasTensor:
    """Returns `image * scale + offset`, with one number for all channels or one for each."""
    # Always float32: a float16 pixel would lose the fractions that augmentation makes.
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="pixel_scaling")(image)
