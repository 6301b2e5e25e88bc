r"""Human maps: from what people have, fixations, clicks, boxes, polygons, masks, to what a divergence wants.

Coordinates are (x, y) in the map's pixels, x to the right and y down; whole numbers are pixel centres, so that the
point (x, y) marks ``map[y, x]``, whose pixel reaches from x - 0.5 to x + 0.5. Boxes (xmin, ymin, xmax, ymax) mark the
slice ``map[ymin:ymax, xmin:xmax]``. Sizes are (height, width).

What makes maps returns (B, H, W), or (H, W) for one sample. What changes maps takes (\*, H, W), each map on its own.
Maps are float, uint8 (read as 0..255) or bool, and come out in float32, or float64 where float64 went in, on the device
they were on. Nothing is normalised: divergences do that.
"""

from saliency_losses.maps.annotators import annotator_agreement, combine_annotators
from saliency_losses.maps.bounding import bounding_box
from saliency_losses.maps.boxes import boxes_to_map
from saliency_losses.maps.denoising import denoise_fixations
from saliency_losses.maps.fixations import fixations_to_counts, fixations_to_map, pixels_per_degree
from saliency_losses.maps.granularity import area, boundary, features
from saliency_losses.maps.hull import convex_hull
from saliency_losses.maps.masks import mask_to_map
from saliency_losses.maps.polygons import polygons_to_map
from saliency_losses.maps.resizing import resize
from saliency_losses.maps.signed import TriState, tri_state
from saliency_losses.maps.smoothing import blur
from saliency_losses.maps.thresholding import threshold

__all__ = [
    "TriState",
    "annotator_agreement",
    "area",
    "blur",
    "boundary",
    "bounding_box",
    "boxes_to_map",
    "combine_annotators",
    "convex_hull",
    "denoise_fixations",
    "features",
    "fixations_to_counts",
    "fixations_to_map",
    "mask_to_map",
    "pixels_per_degree",
    "polygons_to_map",
    "resize",
    "threshold",
    "tri_state",
]
