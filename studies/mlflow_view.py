"""The page on which MLflow opens a study: all arms in order, the columns that matter, the charts drawn. And the link to it."""

from __future__ import annotations

import json
from .plan import Plan

VIEW_KEY = "vitnas"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"

def view_state(plan: Plan) -> str:
    return json.dumps({"searchFilter": "tags.`vitnas.kind` = 'arm'", "orderByKey": "attributes.run_name", "orderByAsc": True,
      "runsHiddenMode": "SHOW_ALL"})
