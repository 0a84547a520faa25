/**
 * What the two servers are asked, over the same patients of Synthea. In memory, Medplum finds a text anywhere in a
 * word, and FHIR means its beginning; so the texts here stand at beginnings only. `:exact` has its case.
 */
export const searches = [
  ...["gender=female", "gender=male,female", "gender=other", "gender=female&deceased=true"],
  ...["name=rob", "name=STOKES453", "name:exact=Robin66", "name:contains=bin", "name=stokes453,robin"],
  ...["family=pa", "family:exact=Stokes453", "family:contains=ok", "given=mic", "given:exact=Robin66", "given=je,wil&gender=female"],
  ...["birthdate=2023-01-30", "birthdate=2023-01", "birthdate=2023", "birthdate=ge2000-01-01", "birthdate=gt2000", "birthdate=lt1990-06"],
  ...["birthdate=le1990-06-15", "birthdate=ge1980&birthdate=lt1990", "birthdate=eq1990", "birthdate=ne1990"],
  ...["deceased=true", "deceased=false"],
  ...["identifier=http://hl7.org/fhir/sid/us-ssn|999-44-8641", "identifier=999-44-8641", "identifier=http://hl7.org/fhir/sid/us-ssn|1"],
  ...["identifier=http://hl7.org/fhir/sid/passport-USA|", "identifier=http://hl7.org/fhir/sid/us-ssn|999-44-8641,nobody"],
  ...["address=reading", "address-city=reading", "address-city:exact=Reading", "address-state=MA", "address-state=NY"],
  ...["address-postalcode=018", "address-country=US", "address-city=bos,spring", "address:contains=approach"],
  ...["phone=555-567-7938", "telecom=phone|555-567-7938", "email:missing=true", "phone:missing=true", "email=nobody@example.com"],
  ...["family=pa&birthdate=lt1980", "family=pa&gender=male", "given=fr&deceased=false", "gender=female&address-city=boston&deceased=false"],
];

/** Searches whose order is compared too. No two of the patients share what they are sorted by. */
export const sorted = ["_sort=birthdate&birthdate=ge2000", "_sort=-birthdate&gender=male&birthdate=ge2000"];
