//! The images that are running, each with what it is at present.

use std::collections::BTreeMap;

use serde::Serialize;

use super::icon::{Look, Tag};

/// An image and what it is at present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Image {
    /// The image as the manifest names it.
    pub(crate) image: String,
    /// What it is.
    pub(crate) tags: Vec<Tag>,
}

/// Images by name; the tags of one image in their order, alphabetically once they come from several places.
#[derive(Debug, Default)]
pub(crate) struct Images(BTreeMap<String, Vec<Tag>>);

impl Images {
    /// Adds an image that runs somewhere.
    pub(crate) fn add(&mut self, image: &str, tags: &[Tag]) {
        let Some(known) = self.0.get_mut(image) else {
            self.0.insert(image.to_owned(), tags.to_vec());
            return;
        };
        let new: Vec<_> = tags
            .iter()
            .filter(|tag| !known.contains(tag))
            .cloned()
            .collect();
        if !new.is_empty() {
            known.extend(new);
            known.sort_by_key(|tag| tag.text(Look::default()));
        }
    }

    /// All of them, by name.
    pub(crate) fn into_list(self) -> Vec<Image> {
        self.0
            .into_iter()
            .map(|(image, tags)| Image { image, tags })
            .collect()
    }
}

impl Image {
    /// `<image> (<tags>)`.
    pub(crate) fn painted(&self, look: Look) -> String {
        if self.tags.is_empty() {
            return self.image.clone();
        }
        let tags: Vec<_> = self.tags.iter().map(|tag| tag.painted(look)).collect();
        format!("{} ({})", self.image, tags.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_in_two_places_is_one_line_with_the_tags_of_both() {
        let mut images = Images::default();
        images.add("b", &[Tag::Stable, Tag::Active]);
        images.add("a", &[Tag::Stable]);
        images.add("a", &[Tag::Canary]);
        images.add("a", &[Tag::Canary]);
        images.add("c", &[]);
        let lines: Vec<_> = images
            .into_list()
            .iter()
            .map(|image| image.painted(Look::default()))
            .collect();
        assert_eq!(lines, ["a (canary, stable)", "b (stable, active)", "c"]);
    }
}
