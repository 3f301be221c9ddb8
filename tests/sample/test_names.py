from sample.names import clip_ids
from stages.sample import plan_sample


def test_the_names_of_the_clips_are_known_without_their_plans() -> None:
    plans = plan_sample(seed=3, clips_per_class=12, seconds=1.0)
    assert clip_ids(12) == [plan.video_id for plan in plans] and len(set(clip_ids(12))) == 72
