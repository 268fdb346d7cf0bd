"""One carrier as token ids, with the bytes and characters each response token covers."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class EncodedCarrier:
    """A tokenised carrier.

        token_ids   p0 p1 p2 | y0 y1 y2 y3        (one array, prompt then response)
        logits row   0  1  2 |  3  4  5  6        row r predicts token r + 1
        so y_i is predicted by row response_start + i - 1

    Attributes:
        carrier_id: of the record.
        token_ids: prompt and response, shape (token,), int32.
        response_start: index of y_0 in `token_ids`; >= 1.
        char_spans: characters of the response text that y_i covers, shape (response, 2): start
            inclusive, end exclusive; a token that holds part of a character covers that character.
        response_text: the text those spans index. It differs from the record's response only where
            the record's own ids spell something else, or where the prompt opens the thinking that
            the response opens again; that is how such a carrier is told.
        seam_moved: a token straddled prompt and response, so the boundary moved to its end.
        respelt: the record's own ids spell more or less than its response, and it is no end of text
            alone.
    """

    carrier_id: str
    token_ids: Int[np.ndarray, " token"]
    response_start: int
    char_spans: Int[np.ndarray, "response 2"]
    response_text: str
    seam_moved: bool
    respelt: bool = False
