"""`wildreward push`: a model or dataset folder to the Hugging Face Hub."""

from dataclasses import dataclass, field

from wildreward.common.errors import UserError


@dataclass
class PushConfig:
    """What goes where."""

    path: str | None = field(default=None, metadata={"help": "Model or dataset folder (told apart by its contents)."})
    repo_id: str | None = field(
        default=None, metadata={"help": "Repository on the Hub, OWNER/NAME; created if it does not exist."}
    )
    private: bool = field(
        default=False,
        metadata={"help": "Create the repository private. Without it, the account's own default decides."},
    )
    license: str | None = field(
        default=None,
        metadata={"help": "License id for the card, kept in later pushes; a model's default: its base model's."},
    )
    message: str | None = field(default=None, metadata={"help": "Commit message."})


CONFIGS = (PushConfig,)


def main(config: PushConfig) -> None:
    """Run the command."""
    from wildreward.model_card.upload import push

    if not config.path or not config.repo_id:
        raise UserError("push needs --path DIR and --repo-id OWNER/NAME")
    done = push(config.path, config.repo_id, config.private or None, config.license, config.message)
    if done.left_out:
        print(f"not pushed: {', '.join(done.left_out[:10])}{' …' if len(done.left_out) > 10 else ''}")
    print(f"{done.kind} {'pushed' if done.changed else 'already up to date'}: {done.url}")
