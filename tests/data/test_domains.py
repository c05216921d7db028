"""Natural domains in folders and lists."""

import pytest
import torch
from PIL import Image
from trees import noise, same, write_images

from tta.datasets import domain_folders, load_data
from tta.errors import TTAError
from tta.streams import Domain, make_stream

CLASSES = ("dog", "elephant", "giraffe", "guitar")


def write_pacs(root, rng, lacking=()):
    """root/DOMAIN/CLASS/IMAGE; returns the images of each domain."""
    return {
        domain: write_images(root / domain, [name for name in CLASSES if (domain, name) not in lacking], 2, rng)
        for domain in ("art_painting", "cartoon", "photo")
    }


def test_every_folder_is_a_domain_with_the_same_classes(tmp_path, rng):
    arrays = write_pacs(tmp_path / "pacs", rng, lacking={("cartoon", "elephant")})
    (tmp_path / "pacs" / ".git").mkdir()
    domains = domain_folders(tmp_path / "pacs")
    assert list(domains) == ["art_painting", "cartoon", "photo"]
    for name, data in domains.items():
        assert (data.name, data.classes) == (f"pacs/{name}", CLASSES)
        assert same(data.images(slice(None)), arrays[name])
    assert domains["cartoon"].labels.tolist() == [0, 0, 2, 2, 3, 3]
    assert list(domain_folders(tmp_path / "pacs", names=["photo", "cartoon"])) == ["photo", "cartoon"]


def test_a_stream_goes_over_natural_domains(tmp_path, rng):
    write_pacs(tmp_path / "pacs", rng)
    domains = domain_folders(tmp_path / "pacs", limit=4)
    stream = make_stream([Domain(name, 0, data) for name, data in domains.items()], batch_size=3)
    batches = list(stream)
    assert [batch.domain.unique().tolist() for batch in batches] == [[0], [0], [1], [1], [2], [2]]
    assert torch.equal(torch.cat([batch.y for batch in batches]).bincount(), torch.full((4,), 3))


def test_folders_named_images_are_passed_through(tmp_path, rng):
    arrays = write_images(tmp_path / "office31" / "amazon" / "images", ["bike", "mug"], 1, rng)
    write_images(tmp_path / "office31" / "dslr" / "images", ["bike", "mug"], 1, rng)
    assert same(domain_folders(tmp_path / "office31")["amazon"].images(slice(None)), arrays)


def test_domains_that_do_not_agree_are_refused(tmp_path, rng):
    write_pacs(tmp_path / "pacs", rng)
    with pytest.raises(TTAError, match=r"no domain 'sketch'; it has art_painting, cartoon, photo"):
        domain_folders(tmp_path / "pacs", names=["photo", "sketch"])
    (tmp_path / "pacs" / "photo" / "guitar").rename(tmp_path / "pacs" / "photo" / "Guitar")
    with pytest.raises(TTAError, match=r"'Guitar' of photo and 'guitar' of art_painting seem to be one"):
        domain_folders(tmp_path / "pacs")
    write_images(tmp_path / "pacs" / "splits", ["a"], 1, rng)
    with pytest.raises(TTAError, match=r"splits has 1 of the .* lacks"):
        domain_folders(tmp_path / "pacs", names=["cartoon", "splits"])


def test_other_layouts_are_told(tmp_path, rng):
    write_images(tmp_path / "plain", ["cat", "dog"], 1, rng)
    with pytest.raises(TTAError, match="holds images where folders of classes are expected"):
        domain_folders(tmp_path / "plain")
    write_pacs(tmp_path / "pacs", rng)
    with pytest.raises(TTAError, match="looks like DOMAIN/CLASS/IMAGE"):
        load_data("pacs", tmp_path)
    assert len(load_data("pacs/photo", tmp_path).classes) == 4
    with pytest.raises(TTAError, match="is not there"):
        domain_folders(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TTAError, match="holds no domains"):
        domain_folders(tmp_path / "empty")


# --- lists ---


def write_domainnet(root, rng, names=("clipart", "real")):
    """root/DOMAIN/CLASS/FILE with DOMAIN_list.txt: lines in no order, paths with blanks, images that are in no list."""
    arrays = {}
    for domain in names:
        lines = []
        for label, name in ((1, "teapot"), (0, "rabbit")):
            folder = root / domain / name
            folder.mkdir(parents=True)
            for i in range(3):
                image = noise(rng, 8, 8, 3)
                Image.fromarray(image).save(folder / f"{domain} {i}.png")
                if i < 2:
                    lines.append(f"{domain}/{name}/{domain} {i}.png {label}")
                    arrays[domain, label, i] = image
        (root / f"{domain}_list.txt").write_text("\n".join(lines) + "\n")
    return arrays


def test_lists_say_which_images_belong_to_a_domain(tmp_path, rng):
    root = tmp_path / "DomainNet-126"
    arrays = write_domainnet(root, rng)
    (root / "clipart" / "unlisted").mkdir()
    domains = domain_folders(root)
    assert list(domains) == ["clipart", "real"]
    for name, data in domains.items():
        assert data.classes == ("rabbit", "teapot")
        assert data.labels.tolist() == [0, 0, 1, 1]
        assert same(data.images(slice(None)), [arrays[name, label, i] for label in (0, 1) for i in (0, 1)])
    assert "4 of 4 images of clipart_list.txt" in domains["clipart"].note


def test_lists_of_a_split_and_in_another_folder(tmp_path, rng):
    write_domainnet(tmp_path / "images", rng)
    (tmp_path / "lists").mkdir()
    for domain in ("clipart", "real"):
        (tmp_path / "images" / f"{domain}_list.txt").rename(tmp_path / "lists" / f"{domain}_test.txt")
    (tmp_path / "lists" / "real_train.txt").write_text("real/rabbit/real 2.png 0\n")
    domains = domain_folders(tmp_path / "images", lists=tmp_path / "lists")
    assert [len(data) for data in domains.values()] == [4, 4]
    assert [len(d) for d in domain_folders(tmp_path / "images", lists=tmp_path / "lists", split="train").values()] == [
        1
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("real/rabbit/real 9.png 0", r"1 of 5 files that are not in .*real 9\.png"),
        ("real/rabbit/real 0.png", "line 5: expected a path, a blank and a label"),
        ("real/rabbit/real 0.png -1", "line 5: expected a path"),
        ("real/rabbit/real 2.png 1", "is 'teapot' elsewhere|is 'rabbit' elsewhere"),
        ("real/rabbit/real 2.png 2", "give 'rabbit' several labels"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path, rng, line, message):
    write_domainnet(tmp_path, rng)
    with (tmp_path / "real_list.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(TTAError, match=message):
        domain_folders(tmp_path)


def test_labels_of_the_same_images_make_another_fingerprint(tmp_path, rng):
    write_domainnet(tmp_path, rng)
    before = domain_folders(tmp_path)["real"].fingerprint
    listed = (tmp_path / "real_list.txt").read_text()
    clip = (tmp_path / "clipart_list.txt").read_text()
    for file, text in (("real_list.txt", listed), ("clipart_list.txt", clip)):
        (tmp_path / file).write_text(text.replace(" 1\n", " 3\n"))
    assert domain_folders(tmp_path)["real"].fingerprint != before
