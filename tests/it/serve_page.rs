//! The page of `fieldsync serve` in a real Chromium, on the tables of a SQLite file. These tests fail where Chromium or its driver
//! is missing.

use std::path::PathBuf;
use std::time::Duration;

use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::browser::{Browsers, Window};
use crate::command_line::Served;
use crate::demo::on_every_server;

on_every_server!(
    a_cell_is_edited_by_keyboard,
    a_refused_value_shows_its_reason_beside_the_cell,
    changes_from_elsewhere_are_shown_and_highlighted,
    values_that_look_like_markup_are_shown_as_text,
    records_are_created_and_deleted,
    a_table_that_cannot_be_served_shows_why,
    an_unknown_table_in_the_address_closes_the_editor,
    a_read_only_table_offers_no_edits,
    an_edit_beside_a_long_number_leaves_its_digits,
    records_that_no_url_can_name_are_read_only,
    null_differs_from_the_text_null,
    the_page_fits_a_phone_and_the_dark,
);

/// Tables of every kind: columns of many types, a key of two columns, and no key.
const TABLES: &str = "
    create table book (
        id integer primary key, title text not null, pages integer check (pages > 0), price decimal(8, 2),
        in_print boolean not null default 1, lent boolean, state text not null default 'new' check (state in ('new', 'used', 'worn')),
        published date, added datetime, isbn varchar(20) unique, notes text
    );
    insert into book values
        (1, 'If This Is a Man', 187, 12.5, 1, 0, 'used', '1947-10-11', '2026-01-13T10:00:00Z', '978-0-349-10013-5', null),
        (2, 'Middlemarch', 880, 9.99, 1, 1, 'worn', '1871-12-01', '2026-01-14T08:30:00Z', '978-0-14-143954-9', null),
        (3, 'The Left Hand of Darkness', 304, null, 1, null, 'new', '1969-03-01', null, null, 'Lent to Genly.'),
        (4, 'Invisible Cities', 165, 11, 0, 0, 'used', '1972-11-01', '2026-01-16T12:00:00Z', '978-0-15-645380-6', null),
        (5, '', null, null, 0, null, 'new', null, null, null, null),
        (6, 'The Waves', 297, 8.25, 1, 0, 'used', '1931-10-08', '2026-01-18T09:15:00Z', '978-0-15-694960-6', null),
        (7, 'Kindred', 264, 10, 1, 1, 'worn', '1979-06-01', '2026-01-19T17:45:00Z', '978-0-8070-8369-7', null);
    create table book_author (book_id integer not null references book on delete cascade, author text not null, role text, primary key (book_id, author));
    insert into book_author values (1, 'Primo Levi', 'author'), (1, 'Stuart Woolf', 'translator'), (4, 'Italo Calvino', null);
    create table loose (word text, number integer);
    create table doc (id integer primary key, data json);
    insert into doc values (1, '{\"n\":12345678901234567890123,\"f\":1.5,\"m\":1}');
    create table tag (name text primary key, note text);
    insert into tag values ('.', 'one dot'), ('..', 'two dots'), ('...', 'three dots');
";

struct Scene {
    window: Window,
    browsers: Browsers,
    server: Served,
    database: Connection,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// Opens the books, when they are live.
    async fn open(framework: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("books.db");
        let database = Connection::open(&file).unwrap();
        database.busy_timeout(Duration::from_secs(30)).unwrap();
        database.pragma_update(None, "journal_mode", "wal").unwrap();
        database.execute_batch(TABLES).unwrap();
        let server = Served::start(
            &format!("sqlite:{}", file.display()),
            &["--capture", "--server", framework],
        );
        let browsers = Browsers::start();
        let address = format!("{}#/book", server.url);
        let size = ["--window-size=1280,900"];
        let window = browsers.open_with(&address, &size, json!({})).await;
        Self {
            window,
            browsers,
            server,
            database,
            _folder: folder,
        }
    }

    /// Presses keys in the element that has the focus.
    async fn press(&self, keys: &str) {
        let element = self.window.client.active_element().await.unwrap();
        element.send_keys(keys).await.unwrap();
    }

    /// Replaces the value of a cell by keyboard alone, from the cell with the focus.
    async fn enter(&self, text: &str) {
        self.press(&key(Key::Enter)).await;
        self.press(&format!("{}a", char::from(Key::Control))).await;
        self.press(&format!("{text}{}", char::from(Key::Enter)))
            .await;
    }

    /// Moves the focus to a cell of the first record by Tab and arrow keys.
    async fn go_to_column(&self, column: usize) {
        self.window
            .eval("document.querySelector('#tab-records').focus()")
            .await;
        self.press(&key(Key::Tab)).await;
        for _ in 0..column {
            self.press(&key(Key::Right)).await;
        }
    }

    /// A column of a record in the database.
    fn stored(&self, column: &str, id: i64) -> rusqlite::types::Value {
        let query = format!("select {column} from book where id = ?");
        self.database
            .query_row(&query, [id], |row| row.get(0))
            .unwrap()
    }

    async fn close(self) {
        self.window.close().await;
    }
}

fn key(key: Key) -> String {
    char::from(key).to_string()
}

/// A JavaScript expression for a cell.
fn cell(id: i64, field: &str) -> String {
    format!("document.querySelector('tr[data-id=\"{id}\"] td[data-field={field}]')")
}

async fn a_cell_is_edited_by_keyboard(framework: &str) {
    let scene = Scene::open(framework).await;
    let window = &scene.window;
    scene.go_to_column(1).await;
    scene.enter("Se questo è un uomo").await;
    window
        .until("document.querySelector('#status').textContent === 'Saved title of 1.'")
        .await;
    assert_eq!(
        scene.stored("title", 1),
        "Se questo è un uomo".to_owned().into()
    );
    let focused = window.eval("document.activeElement.textContent").await;
    assert_eq!(focused, json!("Se questo è un uomo"));
    // What is cancelled is not stored.
    scene.press("x").await;
    scene.press(&key(Key::Escape)).await;
    let focused = window.eval("document.activeElement.textContent").await;
    assert_eq!(focused, json!("Se questo è un uomo"));
    // A checkbox: from true to false with the space bar.
    for _ in 0..3 {
        scene.press(&key(Key::Right)).await;
    }
    scene.press(" ").await;
    window
        .until("document.querySelector('#status').textContent === 'Saved in_print of 1.'")
        .await;
    assert_eq!(scene.stored("in_print", 1), 0.into());
    // The button beside the editor sets NULL.
    scene.press(&key(Key::Left)).await;
    scene.press(&key(Key::Enter)).await;
    scene.press(&key(Key::Tab)).await;
    scene.press(&key(Key::Enter)).await;
    window
        .until("document.querySelector('#status').textContent === 'Saved price of 1.'")
        .await;
    assert_eq!(scene.stored("price", 1), rusqlite::types::Value::Null);
    window
        .until(&format!("{}.textContent === 'NULL'", cell(1, "price")))
        .await;
    let title: String = scene
        .database
        .query_row("select title from book where id = 1", [], |row| row.get(0))
        .unwrap();
    assert_eq!(title, "Se questo è un uomo");
    scene.close().await;
}

async fn a_refused_value_shows_its_reason_beside_the_cell(framework: &str) {
    let scene = Scene::open(framework).await;
    let window = &scene.window;
    scene.go_to_column(2).await;
    // The database refuses it.
    scene.enter("-5").await;
    window
        .until(&format!(
            "{}.querySelector('.message')?.textContent === 'Is not allowed by the database.'",
            cell(1, "pages")
        ))
        .await;
    assert_eq!(scene.stored("pages", 1), 187.into());
    // The page refuses it.
    scene.press(&key(Key::Down)).await;
    scene.enter("many").await;
    window
        .until(&format!(
            "{}.querySelector('.message')?.textContent === 'Must be a whole number.'",
            cell(2, "pages")
        ))
        .await;
    window
        .picture(&format!("serve-refused-{framework}.png"))
        .await;
    // Enter goes on with what was typed.
    scene.press(&key(Key::Enter)).await;
    assert_eq!(
        window.eval("document.activeElement.value").await,
        json!("many")
    );
    scene.press(&key(Key::Escape)).await;
    scene.press(&key(Key::Escape)).await;
    window
        .until(&format!("{}.textContent === '880'", cell(2, "pages")))
        .await;
    scene.press(&key(Key::Up)).await;
    scene.enter("188").await;
    window
        .until(&format!("{}.textContent === '188'", cell(1, "pages")))
        .await;
    window
        .until("document.querySelector('#status').textContent === 'Saved pages of 1.'")
        .await;
    assert_eq!(scene.stored("pages", 1), 188.into());
    scene.close().await;
}

async fn changes_from_elsewhere_are_shown_and_highlighted(framework: &str) {
    let scene = Scene::open(framework).await;
    let window = &scene.window;
    // The highlight ends after two seconds: an observer notes each cell that has it.
    window.eval("(window.highlighted = [], new MutationObserver((all) => all.forEach(({target}) => target.classList.contains('changed') && \
        highlighted.push(target.dataset.field ?? 'id'))).observe(document.querySelector('#grid'), {subtree: true, attributeFilter: ['class']}), true)").await;
    scene.go_to_column(1).await;
    scene.enter("Own").await;
    window
        .until("document.querySelector('#status').textContent === 'Saved title of 1.'")
        .await;
    let update = "update book set title = 'Outside', price = 1.25, lent = 1 where id = 3";
    scene.database.execute(update, []).unwrap();
    window
        .until(&format!("{}.textContent === 'Outside'", cell(3, "title")))
        .await;
    window
        .until(&format!(
            "{}.classList.contains('changed')",
            cell(3, "title")
        ))
        .await;
    window
        .picture(&format!("serve-changed-{framework}.png"))
        .await;
    window
        .until("[...new Set(highlighted)].sort().join() === 'lent,price,title'")
        .await;
    assert_eq!(
        window
            .eval(&format!("{}.textContent", cell(3, "pages")))
            .await,
        json!("304")
    );
    // Neither the highlight nor the change disturbs who is typing.
    scene.press(&key(Key::Enter)).await;
    scene.press(" edit").await;
    scene
        .database
        .execute(
            "update book set title = 'Again', pages = 2 where id = 1",
            [],
        )
        .unwrap();
    window
        .until(&format!("{}.textContent === '2'", cell(1, "pages")))
        .await;
    let typed = window.eval("document.activeElement.value").await;
    assert!(typed.as_str().unwrap().ends_with(" edit"), "{typed}");
    window
        .until(
            "document.querySelector('.editor').textContent.includes('Changed elsewhere to Again')",
        )
        .await;
    scene.press(&key(Key::Escape)).await;
    window
        .until(&format!("{}.textContent === 'Again'", cell(1, "title")))
        .await;
    // Rows come and go.
    scene
        .database
        .execute("insert into book (id, title) values (9, 'New')", [])
        .unwrap();
    window
        .until(&format!("{}?.textContent === 'New'", cell(9, "title")))
        .await;
    window
        .until("document.querySelector('a[aria-current] .rows').textContent === '8'")
        .await;
    scene
        .database
        .execute("delete from book where id in (1, 9)", [])
        .unwrap();
    window
        .until("document.querySelectorAll('#grid tbody tr').length === 6")
        .await;
    // The row with the focus was deleted: the focus is in the next one.
    window
        .until("document.activeElement.closest('tr')?.dataset.id === '2'")
        .await;
    scene.close().await;
}

async fn values_that_look_like_markup_are_shown_as_text(framework: &str) {
    let scene = Scene::open(framework).await;
    let window = &scene.window;
    let hostile = "<img src=x onerror=\"window.hacked = 1\"><script>window.hacked = 1</script>";
    scene
        .database
        .execute(
            "update book set title = ?1, notes = ?1 where id = 1",
            [hostile],
        )
        .unwrap();
    window
        .until(&format!(
            "{}.textContent === {}",
            cell(1, "title"),
            json!(hostile)
        ))
        .await;
    scene.go_to_column(1).await;
    scene.press(&key(Key::Enter)).await;
    assert_eq!(
        window.eval("document.activeElement.value").await,
        json!(hostile)
    );
    scene.press(&key(Key::Escape)).await;
    window.see("#tab-code").await.click().await.unwrap();
    window
        .until("document.querySelector('#panel-code').textContent.includes('onerror')")
        .await;
    assert_eq!(window.eval("window.hacked ?? null").await, Value::Null);
    assert_eq!(
        window
            .eval("document.querySelectorAll('main img, main script').length")
            .await,
        json!(0)
    );
    scene.close().await;
}

async fn records_are_created_and_deleted(framework: &str) {
    let scene = Scene::open(framework).await;
    let window = &scene.window;
    let click = async |selector: &str| window.see(selector).await.click().await.unwrap();
    click("#new-record").await;
    window
        .see("#new-isbn")
        .await
        .send_keys("978-0-14-143954-9")
        .await
        .unwrap();
    click("#record-dialog-submit").await;
    window
        .until("document.querySelector('#new-isbn-error').textContent === 'Is already taken.'")
        .await;
    window
        .see("#new-title")
        .await
        .send_keys("Solaris")
        .await
        .unwrap();
    window.see("#new-isbn").await.send_keys("!").await.unwrap();
    click("#record-dialog-submit").await;
    window
        .until(&format!("{}?.textContent === 'Solaris'", cell(8, "title")))
        .await;
    assert_eq!(scene.stored("state", 8), "new".to_owned().into());
    click("tr[data-id='8'] th").await;
    click("#delete-record").await;
    click("#record-dialog-submit").await;
    window
        .until("document.querySelector('tr[data-id=\"8\"]') === null")
        .await;
    // A key of two columns.
    click("a[data-table=book_author]").await;
    let translator = "document.querySelector('tr[data-id=\"1,Stuart Woolf\"] td[data-field=role]')";
    window
        .until(&format!("{translator}?.textContent === 'translator'"))
        .await;
    window.see("#connection[data-state=connected]").await;
    window.eval(&format!("{translator}.focus()")).await;
    scene.enter("translated it").await;
    window
        .until("document.querySelector('#status').textContent === 'Saved role of 1,Stuart Woolf.'")
        .await;
    let role: String = scene
        .database
        .query_row(
            "select role from book_author where author = 'Stuart Woolf'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(role, "translated it");
    scene.close().await;
}

async fn a_table_that_cannot_be_served_shows_why(framework: &str) {
    let scene = Scene::open(framework).await;
    let window = &scene.window;
    window
        .see("a[data-table='!loose']")
        .await
        .click()
        .await
        .unwrap();
    window
        .until("document.querySelector('#table-problem').textContent.includes('neither a primary key nor a unique index')")
        .await;
    window
        .see("a[data-table=book]")
        .await
        .click()
        .await
        .unwrap();
    window.see("#tab-columns").await.click().await.unwrap();
    window
        .until("document.querySelector('#panel-columns').innerText.includes('decimal(8, 2)')")
        .await;
    window
        .picture(&format!("serve-columns-{framework}.png"))
        .await;
    window.see("#wire summary").await.click().await.unwrap();
    window
        .until("[...document.querySelectorAll('#wire-entries .what')].some(({textContent}) => textContent === 'subscribe book')")
        .await;
    window.see("#tab-code").await.click().await.unwrap();
    window.picture(&format!("serve-code-{framework}.png")).await;
    scene.close().await;
}

async fn an_unknown_table_in_the_address_closes_the_editor(framework: &str) {
    let scene = Scene::open(framework).await;
    let window = &scene.window;
    window
        .eval("(window.failures = [], addEventListener('error', ({message}) => failures.push(message)), true)")
        .await;
    scene.go_to_column(1).await;
    scene.press("typed").await;
    window.see(".editor").await;
    window.eval("location.hash = '#/nowhere'").await;
    window
        .until("document.querySelector('#table-name').textContent === 'No such table'")
        .await;
    window
        .until(
            "document.querySelector('#table-problem').textContent === 'There is no table nowhere.'",
        )
        .await;
    window
        .until("document.querySelector('.editor, [aria-current]') === null && document.querySelector('#table-select').value === ''")
        .await;
    window
        .picture(&format!("serve-nowhere-{framework}.png"))
        .await;
    // The page still works.
    window.eval("location.hash = '#/book'").await;
    window
        .until(&format!(
            "{}?.textContent === 'If This Is a Man'",
            cell(1, "title")
        ))
        .await;
    window
        .until("document.querySelector('[aria-current]').dataset.table === 'book'")
        .await;
    assert_eq!(window.eval("failures").await, json!([]));
    scene.close().await;
}

/// Runs a script in each page that is opened later, before its own.
#[derive(Debug)]
struct OnEachPage(&'static str);

impl WebDriverCompatibleCommand for OnEachPage {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/goog/cdp/execute"))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        let command =
            json!({"cmd": "Page.addScriptToEvaluateOnNewDocument", "params": {"source": self.0}});
        (http::Method::POST, Some(command.to_string()))
    }
}

async fn a_read_only_table_offers_no_edits(framework: &str) {
    let scene = Scene::open(framework).await;
    let window = &scene.window;
    let read_only = OnEachPage(
        "const {fetch} = window;
        window.fetch = async (url, options) => {
            const reply = await fetch(url, options);
            if (url !== '/api/') return reply;
            return new Response((await reply.text()).replace(/\"(creatable|writable)\":true/g, '\"$1\":false'));
        };",
    );
    window.client.issue_cmd(read_only).await.unwrap();
    window.client.refresh().await.unwrap();
    window.see("[role=grid][aria-readonly=true]").await;
    window
        .until("document.querySelector('#read-only').innerText === \"Read-only: records can't be created, edited or deleted here.\"")
        .await;
    scene.go_to_column(1).await;
    scene.press(&key(Key::Enter)).await;
    scene.press("typed").await;
    let offered = "[...document.querySelectorAll('#new-record, #delete-record, .keys, .editor')].filter((one) => one.checkVisibility()).length";
    assert_eq!(window.eval(offered).await, json!(0));
    let code = "document.querySelector('#panel-code').textContent.includes('PATCH')";
    assert_eq!(window.eval(code).await, json!(false));
    window
        .picture(&format!("serve-read-only-{framework}.png"))
        .await;
    scene.close().await;
}

async fn an_edit_beside_a_long_number_leaves_its_digits(framework: &str) {
    const LONG: &str = "12345678901234567890123";
    let scene = Scene::open(framework).await;
    let window = &scene.window;
    window.see("a[data-table=doc]").await.click().await.unwrap();
    let shows = |text: &str| format!("{}?.textContent.includes('{text}')", cell(1, "data"));
    window.until(&shows(LONG)).await;
    window.see("#connection[data-state=connected]").await;
    scene.go_to_column(1).await;
    scene.press(&key(Key::Enter)).await;
    window
        .eval("document.activeElement.value = document.activeElement.value.replace('\"m\": 1', '\"m\": 2')")
        .await;
    scene.press(&key(Key::Enter)).await;
    window
        .until("document.querySelector('#status').textContent === 'Saved data of 1.'")
        .await;
    window.until(&shows("\"m\":2")).await;
    window.until(&shows(LONG)).await;
    let query = "select data from doc";
    let stored: String = scene
        .database
        .query_row(query, [], |row| row.get(0))
        .unwrap();
    for part in [LONG, "1.5", "\"m\":2"] {
        assert!(stored.contains(part), "{stored}");
    }
    // A message has every digit, too.
    let update = format!("update doc set data = '[-0.{LONG}]'");
    scene.database.execute(&update, []).unwrap();
    window.until(&shows(&format!("[-0.{LONG}]"))).await;
    scene.close().await;
}

async fn records_that_no_url_can_name_are_read_only(framework: &str) {
    let scene = Scene::open(framework).await;
    let window = &scene.window;
    window.see("a[data-table=tag]").await.click().await.unwrap();
    let dots = |id: &str| format!("document.querySelector('tr[data-id=\"{id}\"]')");
    window
        .until(&format!(
            "{}?.cells[0].textContent.includes('Read-only: no URL can contain this id.')",
            dots("..")
        ))
        .await;
    window
        .eval(&format!("{}.cells[1].focus()", dots("..")))
        .await;
    scene.press(&key(Key::Enter)).await;
    assert_eq!(
        window
            .eval("document.querySelector('.editor') === null && document.querySelector('#delete-record').hidden")
            .await,
        json!(true)
    );
    window.picture(&format!("serve-dots-{framework}.png")).await;
    window
        .eval(&format!("{}.cells[1].focus()", dots("...")))
        .await;
    scene.enter("edited").await;
    window
        .until("document.querySelector('#status').textContent === 'Saved note of ....'")
        .await;
    scene.close().await;
}

async fn null_differs_from_the_text_null(framework: &str) {
    let scene = Scene::open(framework).await;
    let update = "update book set notes = 'NULL' where id = 1";
    scene.database.execute(update, []).unwrap();
    let has_border = |id, border: &str| {
        let value = format!("{}.querySelector('.value')", cell(id, "notes"));
        format!(
            "{value}.textContent === 'NULL' && getComputedStyle({value}).borderTopStyle === '{border}'"
        )
    };
    scene.window.until(&has_border(1, "none")).await;
    scene.window.until(&has_border(2, "dashed")).await;
    scene.close().await;
}

async fn the_page_fits_a_phone_and_the_dark(framework: &str) {
    let scene = Scene::open(framework).await;
    scene
        .window
        .picture(&format!("serve-light-{framework}.png"))
        .await;
    let address = format!("{}#/book", scene.server.url);
    let arguments = [
        "--window-size=1280,900",
        "--blink-settings=preferredColorScheme=0",
    ];
    let dark = scene
        .browsers
        .open_with(&address, &arguments, json!({}))
        .await;
    assert_eq!(
        dark.eval("matchMedia('(prefers-color-scheme: dark)').matches")
            .await,
        json!(true)
    );
    dark.picture(&format!("serve-dark-{framework}.png")).await;
    dark.close().await;
    let metrics = json!({"mobileEmulation": {"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 2.0}}});
    let phone = scene.browsers.open_with(&address, &[], metrics).await;
    assert_eq!(
        phone
            .eval("document.documentElement.scrollWidth <= innerWidth && innerWidth === 390")
            .await,
        json!(true)
    );
    phone
        .until("document.querySelector('#table-select').checkVisibility()")
        .await;
    phone
        .until("document.querySelectorAll('#grid tbody tr').length === 7")
        .await;
    phone.picture(&format!("serve-phone-{framework}.png")).await;
    phone.close().await;
    scene.close().await;
}
