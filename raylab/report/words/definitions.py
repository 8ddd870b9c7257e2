"""What the numbers of a report mean: English, Japanese.

The formulas and sources of all columns are in docs/method.md.
"""

from __future__ import annotations

_DEFINED: dict[str, tuple[tuple[str, str], tuple[str, str]]] = {
    "norms": (
        ("L1, L2", "L1、L2"),
        (
            "the sum of magnitudes, and the root of the sum of squares, of float32(a) - float32(b) over all tensors that either side trained, accumulated in float64.",
            "float32(a) - float32(b) の絶対値の和と二乗和の平方根。どちらかが学習した全テンソルについて float64 で累積。",
        ),
    ),
    "trial": (
        ("L2 of a trial", "学習の L2"),
        (
            "the L2 of its task vector: what its training changed.",
            "タスクベクトル（学習が変えたもの）の L2。",
        ),
    ),
    "pair": (
        ("data pair", "データの組"),
        (
            "two trials that share base model, method, seed, learning rate and parent, and differ in data.",
            "ベースモデル、手法、シード、学習率、親モデルが同じで、データだけが異なる二つの学習。",
        ),
    ),
    "factor": (
        ("L2 factor", "L2 の倍率"),
        (
            "the largest L2 over the smallest between seeds: at most 1.25 is stable, above 1.25 up to 2 varies, above 2 is the seed's doing rather than the method's.",
            "シード間の最大 L2 ／最小 L2。1.25 以下は安定、2 以下はばらつき、2 を超えるとシードによるもの。",
        ),
    ),
    "floor": (
        ("at unlike seeds, at like seeds", "異なるシード、同じシードでの比"),
        (
            "the mean distance of two recipes that differ in one factor over the mean distance of two seeds of either. At unlike seeds it is 1 where the two are one recipe: up to 1.25 not to be told from the seed, from 2 on beyond it. Where no distance could be twice the seeds' (at most), it cannot be told.",
            "一つの要因が異なるレシピ間の平均距離／それぞれのシード間の平均距離。異なるシード間では、両者が同じレシピなら 1 になる：1.25 以下はシードと区別できず、2 以上はシードを超える。上限が 2 に届かない場合は判定できない。",
        ),
    ),
    "norms_differ": (
        ("norms differ by, seeds by", "ノルムの比、シード間の比"),
        (
            "the larger mean L2 of two recipes over the smaller, and the larger factor between seeds of either; the logarithm of the first over that of the second: up to 1.25 not to be told from the seed, from 2 on beyond it.",
            "二つのレシピの平均 L2 の大きい方／小さい方と、それぞれのシード間の最大の比。対数の比が 1.25 以下はシードと区別できず、2 以上はシードを超える。",
        ),
    ),
    "distance": (
        ("distance", "距離"),
        (
            "the L2 of the difference of two task vectors: measured (norms), or out of their norms and cosine by the law of cosines (pairs).",
            "二つのタスクベクトルの差の L2。直接の測定（norms）、またはノルムとコサインから余弦定理による（pairs）。",
        ),
    ),
    "interval": (
        ("bootstrap, 95 %", "ブートストラップ、95 %"),
        (
            "a percentile bootstrap of the mean over three or more seeds (9,999 resamples, 2.5 to 97.5 %); of three seeds it is their range, and narrower than 95 % deserves for few seeds. For partial shares 95 % by inversion of the noncentral F distribution.",
            "三つ以上のシードの平均のブートストラップ百分位区間（9,999 回、2.5〜97.5 %）。三つでは範囲そのものであり、シードが少ないと 95 % より狭い。偏割合は非心 F 分布の逆転による 95 % 区間。",
        ),
    ),
    "share": (
        ("share of variance", "分散の割合"),
        (
            "type II sum of squares of a factor over the total, in an additive model without interactions; the partial share is over itself plus the residual. What factors explain only together is not told apart.",
            "交互作用のない加法モデルでの、要因のタイプ II 平方和／全平方和。偏割合は自身と残差の和に対するもの。要因が共同でのみ説明する部分は分離しない。",
        ),
    ),
    "cosine": (
        ("cosine", "コサイン"),
        (
            "the signed cosine of two task vectors: 1 alike, 0 unrelated, -1 opposite.",
            "二つのタスクベクトルの符号付きコサイン。1 は同方向、0 は無関係、-1 は逆方向。",
        ),
    ),
    "silhouette": (
        ("silhouette", "シルエット"),
        (
            "how much nearer a model is to its own level of a factor than to the next one, by 1 - cosine, from -1 to 1; from 0.5 on levels cluster apart.",
            "あるモデルが自身の水準に、次に近い水準よりどれだけ近いか（1 - コサイン、-1〜1）。0.5 以上で水準ごとに分かれる。",
        ),
    ),
    "relative": (
        ("relative L2", "相対 L2"),
        (
            "the L2 over that of the base model's weights in the same tensors.",
            "同じテンソルにおけるベースモデルの重みの L2 に対する比。",
        ),
    ),
    "density": (
        ("density, kept", "密度、保持数"),
        (
            "the share of all values kept, the largest magnitudes first, and their number: max(1, floor(density x values)).",
            "絶対値の大きい方から保持した割合と、その数 max(1, floor(密度 x 要素数))。",
        ),
    ),
    "threshold": (
        ("threshold, at or above", "しきい値"),
        (
            "the smallest magnitude kept, and how many values reach it: more than were kept where magnitudes tie.",
            "保持した最小の絶対値と、それ以上の要素数（同値があれば保持数より多い）。",
        ),
    ),
    "half": (
        ("half of L2 in", "L2 の半分"),
        (
            "the density whose largest entries hold half of the norm, between two points of the curve by the logarithm of density.",
            "ノルムの半分を含む密度。曲線の二点間を密度の対数で補間。",
        ),
    ),
    "rank": (
        ("effective rank", "実効ランク"),
        (
            "exp of the entropy of a delta's singular values, each over their sum (Roy and Vetterli 2007), the mean over tensors.",
            "差分の特異値（総和で正規化）のエントロピーの指数（Roy and Vetterli 2007）、テンソル平均。",
        ),
    ),
    "chain": (
        ("angle, cancelled", "角度、打ち消し"),
        (
            "of the child's part to its parent's, in degrees; and 1 - |p + c| / (|p| + |c|).",
            "親に対する子の変化の角度（度）と、1 - |p + c| / (|p| + |c|)。",
        ),
    ),
    "answers": (
        ("style, Japanese, stopped, repetition", "文体、日本語、停止、反復"),
        (
            "the share of sample answers that end in the study's style, that are Japanese by script and are no noise, that ended before the output limit, and in which over 30 % of the 4-grams repeat or of the text is a loop.",
            "回答例のうち、研究の文体で終わるもの、文字種から日本語でありノイズでないもの、出力上限前に終わったもの、4-gram の 30 % 超が反復するかループするものの割合。",
        ),
    ),
    "marked": (
        ("marked", "印"),
        (
            "a model whose rates are beyond the study's limits, where the data's own answers are within them.",
            "割合が研究の限度を超え、データ自身の回答は限度内であるモデル。",
        ),
    ),
    "merge": (
        ("merge", "マージ"),
        (
            "trials or finished models combined into one checkpoint, in the base model's dtype; its L2 is that of the checkpoint minus the base model.",
            "学習または既存モデルを一つのチェックポイントに結合したもの（ベースモデルの型）。L2 はベースモデルとの差。",
        ),
    ),
    "missing": (
        ("–", "–"),
        (
            "not measured. Numbers have four significant digits here, all in the tables.",
            "未測定。ここでは有効数字 4 桁、表には全桁。",
        ),
    ),
}
ORDER = tuple(_DEFINED)
DEFINITIONS: dict[str, tuple[str, str]] = {
    f"define.{name}.{part}": text
    for name, (head, said) in _DEFINED.items()
    for part, text in (("head", head), ("text", said))
}
