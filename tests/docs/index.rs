//! docs/README.md names every page, and README.md names it.

use crate::root;

#[test]
fn the_index_links_every_page_once_and_the_readme_links_the_index() {
    let index = std::fs::read_to_string(root().join("docs/README.md")).unwrap();
    let mut pages = 0;
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && name != "README.md" {
            pages += 1;
            assert_eq!(index.matches(&format!("]({name})")).count(), 1, "links to {name} in docs/README.md");
        }
    }
    assert!(pages > 12, "{pages}");
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains("](docs/README.md)"));
}
