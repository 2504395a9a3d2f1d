"""The page: one tab for each thing that there is to show."""

from pathlib import Path
from typing import Any

import gradio as gr

from wildreward.common.names import is_url, public_name
from wildreward.demo import feedback_tab, markup, policy_tab, quality_tab, try_tab
from wildreward.demo.settings import DemoConfig
from wildreward.scoring.load import load_scorer
from wildreward.scoring.protocol import Scorer

SYSTEM = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]  # nothing is fetched
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]
ACCENT, HOVER = "#2a6f97", "#235d7f"
LAUNCH: dict[str, Any] = {
    "theme": gr.themes.Base(neutral_hue="slate", radius_size="lg", font=SYSTEM, font_mono=MONO).set(
        color_accent=ACCENT,
        button_primary_background_fill=ACCENT,
        button_primary_background_fill_dark=ACCENT,
        button_primary_background_fill_hover=HOVER,
        button_primary_background_fill_hover_dark=HOVER,
    ),
    "css": Path(__file__).with_name("style.css").read_text(encoding="utf-8"),
    "share": False,
    "quiet": True,
    "footer_links": [],
    "enable_monitoring": False,
    "ssr_mode": False,
    "state_session_capacity": 200,  # people whose places in the data are kept
}
"""Arguments of `launch`, wherever the page is served."""
DEADLINE = 20.0  # seconds that somebody who looks at a page waits for a server
WAITING = 64  # requests, beyond which others are refused


def build_app(config: DemoConfig) -> gr.Blocks:
    """Open what the settings name and lay out its tabs; what is missing has none.

    Raises:
        UserError: nothing is named, or something named cannot be opened.
    """
    parts = config.parts()
    tabs: list[tuple[str, Any]] = []
    scorer = _scorer(parts["model"], config) if "model" in parts else None
    if "dataset" in parts:
        tabs.append(("Feedback", feedback_tab.opened(parts["dataset"], config.dataset_revision)))
    if scorer is not None:
        tabs.insert(0, ("Try it", try_tab.opened(scorer)))
        tabs.append(("Quality", quality_tab.opened(parts["model"], config.revision)))
    if "policy" in parts:
        tabs.append(("Policy", policy_tab.opened(parts["policy"])))
    shown = " · ".join(public_name(name) for name in ([config.run] if config.run else parts.values()))
    with gr.Blocks(title="WildReward", analytics_enabled=False) as app:
        gr.HTML(f'<header class="wr-head"><h1>WildReward</h1><p>{markup.text(shown)}</p></header>')
        for title, build in tabs:
            if build is not None:
                with gr.Tab(title):
                    build()
    app.queue(max_size=WAITING, default_concurrency_limit=1)
    return app


def _scorer(model: str, config: DemoConfig) -> Scorer:
    asking = {"deadline": DEADLINE} if is_url(model) else {}
    return load_scorer(model, **config.loading(), **asking)
